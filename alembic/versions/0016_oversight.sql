-- What the marketplace's people do about the market: who is suspended, which usage is under review, which features are on.

create table suspension (
    id uuid not null,
    created_at timestamp with time zone default clock_timestamp() not null,
    kind varchar(32) not null,
    subject_id uuid not null,
    organization_id uuid,
    reason varchar not null,
    actor_id uuid not null,
    restores varchar not null,
    lifted_at timestamp with time zone,
    lifted_by uuid,
    lifted_reason varchar,
    constraint pk_suspension primary key (id),
    constraint ck_suspension_subjectkind check (kind in ('organization', 'user', 'provider', 'api_key')),
    constraint ck_suspension_has_reason check (length(reason) between 1 and 500),
    constraint ck_suspension_lifted_as_a_whole
        check ((lifted_at is null) = (lifted_by is null) and (lifted_at is null) = (lifted_reason is null)),
    constraint fk_suspension_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_suspension_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict,
    constraint fk_suspension_lifted_by_user foreign key (lifted_by) references "user" (id) on delete restrict
);
create unique index uq_suspension_standing on suspension (kind, subject_id) where lifted_at is null;
create index ix_suspension_organization_id on suspension (organization_id);

create table usage_flag (
    id uuid not null,
    created_at timestamp with time zone default clock_timestamp() not null,
    usage_id uuid not null,
    organization_id uuid not null,
    provider_id uuid not null,
    reason varchar not null,
    actor_id uuid not null,
    cleared_at timestamp with time zone,
    cleared_by uuid,
    cleared_reason varchar,
    constraint pk_usage_flag primary key (id),
    constraint ck_usage_flag_has_reason check (length(reason) between 1 and 500),
    constraint ck_usage_flag_cleared_as_a_whole
        check ((cleared_at is null) = (cleared_by is null) and (cleared_at is null) = (cleared_reason is null)),
    constraint fk_usage_flag_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_usage_flag_provider_id_provider
        foreign key (provider_id) references provider (id) on delete restrict,
    constraint fk_usage_flag_actor_id_user foreign key (actor_id) references "user" (id) on delete restrict,
    constraint fk_usage_flag_cleared_by_user foreign key (cleared_by) references "user" (id) on delete restrict
);
create unique index uq_usage_flag_standing on usage_flag (usage_id) where cleared_at is null;
create index ix_usage_flag_provider_id on usage_flag (provider_id) where cleared_at is null;
create index ix_usage_flag_organization_id on usage_flag (organization_id);

create table feature_switch (
    key varchar not null,
    state varchar(32) not null,
    percentage smallint not null,
    organization_ids uuid[] not null,
    updated_at timestamp with time zone default clock_timestamp() not null,
    updated_by uuid,
    constraint pk_feature_switch primary key (key),
    constraint ck_feature_switch_switchstate check (state in ('off', 'on', 'percentage', 'organizations')),
    constraint ck_feature_switch_percentage_in_range check (percentage between 0 and 100),
    constraint fk_feature_switch_updated_by_user
        foreign key (updated_by) references "user" (id) on delete restrict
);

-- History is ended, not deleted.
revoke delete on suspension, usage_flag from raymart_runtime;
