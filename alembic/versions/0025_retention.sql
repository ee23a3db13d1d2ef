-- Nothing of a prompt is kept unless a key asks for it, for 30 days at most.

alter table api_key
    add column prompt_retention_days smallint not null default 0,
    add constraint ck_api_key_retention_days check (prompt_retention_days between 0 and 30);

create table retained_exchange (
    request_id uuid not null,
    organization_id uuid not null,
    api_key_id uuid not null,
    sealed bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    constraint pk_retained_exchange primary key (request_id),
    constraint fk_retained_exchange_organization_id_organization foreign key (organization_id)
        references organization (id) on delete restrict,
    constraint fk_retained_exchange_api_key_id_api_key foreign key (api_key_id)
        references api_key (id) on delete restrict,
    constraint ck_retained_exchange_expires_soon check (expires_at <= created_at + interval '30 days')
);
create index ix_retained_exchange_organization_id on retained_exchange (organization_id);
create index ix_retained_exchange_api_key_id on retained_exchange (api_key_id);
create index ix_retained_exchange_expires_at on retained_exchange (expires_at);
-- Already encrypted, and encrypted bytes do not get smaller.
alter table retained_exchange alter column sealed set storage external;

select tenant_isolate(
    'retained_exchange',
    'organization_id = any ((select tenant_organizations())::uuid[])',
    'organization_id = any ((select tenant_organizations())::uuid[])'
);
