-- A node's link as every process sees it, since when it may serve, how far its clock is off, and its history.
alter table node
    add column qualified_at timestamp with time zone,
    add column link_id uuid,
    add column link_lost_at timestamp with time zone,
    add column clock_skew_ms bigint,
    add column drain_until timestamp with time zone;
-- Whatever serves already was asked for nothing before it did.
update node set qualified_at = coalesce(last_seen_at, created_at) where state in ('ready', 'draining', 'offline');
-- Whom a process that died left behind is found by its silence, and so are links that are missed.
create index ix_node_absent on node (last_seen_at) where state in ('enrolled', 'benchmarking', 'ready');

create table node_event (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    node_id uuid not null,
    event varchar(32) not null,
    from_state varchar(32) not null,
    to_state varchar(32) not null,
    reason varchar not null,
    actor_kind varchar(32) not null,
    actor_id uuid,
    constraint pk_node_event primary key (id),
    constraint fk_node_event_node_id_node foreign key (node_id) references node (id) on delete restrict,
    constraint ck_node_event_nodeeventkind check (event in (
        'linked', 'link_lost', 'benchmark_started', 'benchmark_passed', 'benchmark_failed', 'drained', 'resumed',
        'retired', 'enrolled', 'key_rotated', 'hardware_changed', 'clock_skewed')),
    constraint ck_node_event_from_state check (from_state in (
        'enrolled', 'benchmarking', 'ready', 'draining', 'offline', 'retired')),
    constraint ck_node_event_to_state check (to_state in (
        'enrolled', 'benchmarking', 'ready', 'draining', 'offline', 'retired')),
    constraint ck_node_event_actorkind check (actor_kind in (
        'user', 'api_key', 'service_account', 'node', 'operator', 'system', 'anonymous')),
    constraint ck_node_event_reason_is_short check (length(reason) <= 500)
);
create index ix_node_event_node_id_id on node_event (node_id, id);

create function supply_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege', table = tg_table_name,
        message = tg_op || ' on ' || tg_table_name || ' is refused: ' || tg_argv[0];
end $$;
create trigger refuse_revival before update on node for each row
    when (old.state = 'retired' and new.state <> 'retired')
    execute function supply_refuse('a retired node stays retired; the machine enrols anew');

select tenant_isolate('node_event', 'exists (select from node n where n.id = node_event.node_id)');
grant insert on node_event to raymart_tenant;
create policy tenant_adds on node_event for insert to raymart_tenant
    with check (exists (select from node n where n.id = node_event.node_id));
create trigger refuse_change before update on node_event for each row
    when ((old.id, old.created_at, old.node_id, old.event, old.from_state, old.to_state, old.actor_kind, old.actor_id)
        is distinct from (new.id, new.created_at, new.node_id, new.event, new.from_state, new.to_state, new.actor_kind, new.actor_id)
        or new.reason <> '')
    execute function supply_refuse('what happened to a node stays written down; its words alone may be erased');
grant execute on function supply_refuse() to raymart_runtime, raymart_tenant;
