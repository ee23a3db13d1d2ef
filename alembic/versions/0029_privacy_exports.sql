-- Copies that organizations ask for of what is their own. The files lie in the data folder, named by the row's id.

create table privacy_export (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    requested_by uuid not null,
    state varchar(32) not null,
    bytes bigint,
    expires_at timestamp with time zone,
    constraint pk_privacy_export primary key (id),
    constraint fk_privacy_export_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_privacy_export_requested_by_user foreign key (requested_by) references "user" (id) on delete restrict,
    constraint ck_privacy_export_exportstate check (state in ('requested', 'ready', 'failed', 'expired')),
    constraint ck_privacy_export_ready_has_a_file
        check (state not in ('ready', 'expired') or (bytes is not null and expires_at is not null)),
    constraint ck_privacy_export_bytes_positive check (bytes > 0)
);
create index ix_privacy_export_organization_id_id on privacy_export (organization_id, id);
create unique index uq_privacy_export_requested on privacy_export (organization_id) where state = 'requested';

select tenant_isolate(
    'privacy_export',
    'organization_id = any ((select tenant_organizations())::uuid[])',
    'organization_id = any ((select tenant_organizations())::uuid[])'
);
