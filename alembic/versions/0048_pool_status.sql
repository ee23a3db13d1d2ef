-- Who controls a pool, by a lease, and what its Ray cluster was when that one reported last.
create table pool_status (
    pool_id uuid not null,
    controller_id uuid not null,
    link_id uuid not null,
    held_until timestamp with time zone not null,
    generation bigint,
    reported_at timestamp with time zone,
    ray_nodes varchar[] not null default '{}',
    unknown_applications varchar[] not null default '{}',
    constraint pk_pool_status primary key (pool_id),
    constraint fk_pool_status_pool_id_pool foreign key (pool_id) references pool (id) on delete restrict,
    constraint fk_pool_status_controller_id_node foreign key (controller_id) references node (id) on delete restrict,
    constraint ck_pool_status_lists_short
        check (cardinality(ray_nodes) <= 10000 and cardinality(unknown_applications) <= 64)
);

-- A house pool's names machines of several providers: its status is the platform's.
select tenant_isolate(
    'pool_status',
    '(select tenant_sees_market()) or exists (
        select from pool p where p.id = pool_status.pool_id and p.provider_id = any ((select tenant_providers())::uuid[])
    )'
);
