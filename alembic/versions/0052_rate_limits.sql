-- What organizations, projects and keys may do in a minute, and at once. A row without any limit was removed: gateways
-- read what has changed by `updated_at`, and have to hear of that too.
create table rate_limit (
    scope_id uuid not null,
    setter varchar(32) not null,
    scope varchar(32) not null,
    organization_id uuid not null,
    requests_per_minute integer,
    tokens_per_minute bigint,
    concurrent_requests integer,
    actor_id uuid,
    created_at timestamp with time zone not null default clock_timestamp(),
    updated_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_rate_limit primary key (scope_id, setter),
    constraint fk_rate_limit_organization_id_organization foreign key (organization_id)
        references organization (id) on delete restrict,
    constraint fk_rate_limit_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict,
    constraint ck_rate_limit_limitsetter check (setter in ('customer', 'marketplace')),
    constraint ck_rate_limit_level check (scope in ('organization', 'project', 'api_key')),
    constraint ck_rate_limit_organization_is_scope check (scope <> 'organization' or scope_id = organization_id),
    constraint ck_rate_limit_marketplace_limits_organizations check (setter <> 'marketplace' or scope = 'organization'),
    constraint ck_rate_limit_in_range check (
        requests_per_minute between 1 and 10000000 and tokens_per_minute between 1 and 1000000000000
        and concurrent_requests between 1 and 1000000
    )
);
create index ix_rate_limit_organization_id on rate_limit (organization_id);
create index ix_rate_limit_updated_at on rate_limit (updated_at);

-- Members may lower what is theirs; what the marketplace allows them they only see.
select tenant_isolate(
    'rate_limit',
    'organization_id = any ((select tenant_organizations())::uuid[])',
    'organization_id = any ((select tenant_organizations())::uuid[]) and setter = ''customer'''
);
