-- Members that are no people, and keys of theirs.

create table service_account (
    id uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    organization_id uuid not null,
    name varchar not null,
    role varchar(32) not null,
    created_by uuid not null,
    disabled_at timestamptz,
    constraint pk_service_account primary key (id),
    constraint fk_service_account_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_service_account_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint ck_service_account_role check (
        role in ('owner', 'admin', 'developer', 'billing', 'operator', 'finance', 'support', 'viewer')
    ),
    constraint ck_service_account_role_is_no_owner check (role <> 'owner')
);
create index ix_service_account_organization_id on service_account (organization_id);

alter table api_key
    add column service_account_id uuid,
    add constraint fk_api_key_service_account_id_service_account
        foreign key (service_account_id) references service_account (id) on delete restrict;
create index ix_api_key_service_account_id on api_key (service_account_id);

select tenant_isolate(
    'service_account',
    'organization_id = any ((select tenant_organizations())::uuid[])',
    'organization_id = any ((select tenant_organizations())::uuid[])'
);
