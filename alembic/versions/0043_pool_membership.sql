-- The Ray clusters of house pools: an authority per pool, with its key and the cluster's token sealed, and what it signed.
create table pool_authority (
    pool_id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    certificate varchar not null,
    sealed_key bytea not null,
    sealed_token bytea not null,
    head_address varchar,
    head_told_at timestamp with time zone,
    constraint pk_pool_authority primary key (pool_id),
    constraint fk_pool_authority_pool_id_pool foreign key (pool_id) references pool (id) on delete restrict,
    constraint ck_pool_authority_head_told_at_a_time check ((head_address is null) = (head_told_at is null))
);

create table pool_member (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    pool_id uuid not null,
    node_id uuid not null,
    role varchar(32) not null,
    address varchar not null,
    serial varchar not null,
    expires_at timestamp with time zone not null,
    constraint pk_pool_member primary key (id),
    constraint uq_pool_member_serial unique (serial),
    constraint fk_pool_member_pool_id_pool foreign key (pool_id) references pool (id) on delete restrict,
    constraint fk_pool_member_node_id_node foreign key (node_id) references node (id) on delete restrict,
    constraint ck_pool_member_memberrole check (role in ('node', 'head', 'controller'))
);
create index ix_pool_member_pool_id_address_expires_at on pool_member (pool_id, address, expires_at);
create index ix_pool_member_node_id_expires_at on pool_member (node_id, expires_at);

-- The authority is the marketplace's own; a provider sees its own machines' certificates.
select tenant_isolate('pool_authority');
select tenant_isolate('pool_member', 'exists (select from node n where n.id = pool_member.node_id)');
