-- A provider's application, contact and history; maintenance windows of machines; news of both for every process.
alter table provider
    add column website varchar not null default '',
    add column about varchar not null default '',
    add column contact_email varchar,
    add column contact_verified_at timestamp with time zone;

create table provider_event (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    provider_id uuid not null,
    event varchar(32) not null,
    from_state varchar(32) not null,
    to_state varchar(32) not null,
    reason varchar not null,
    actor_kind varchar(32) not null,
    actor_id uuid,
    constraint pk_provider_event primary key (id),
    constraint fk_provider_event_provider_id_provider foreign key (provider_id) references provider (id) on delete restrict,
    constraint ck_provider_event_providereventkind check (event in (
        'applied', 'approved', 'declined', 'suspended', 'reinstated', 'closed', 'contact_named', 'contact_verified')),
    constraint ck_provider_event_from_state check (from_state in ('applied', 'active', 'suspended', 'closed')),
    constraint ck_provider_event_to_state check (to_state in ('applied', 'active', 'suspended', 'closed')),
    constraint ck_provider_event_actorkind check (actor_kind in (
        'user', 'api_key', 'service_account', 'node', 'operator', 'system', 'anonymous')),
    constraint ck_provider_event_reason_is_short check (length(reason) <= 500)
);
create index ix_provider_event_provider_id_id on provider_event (provider_id, id);
create trigger refuse_change before update on provider_event for each row
    when ((old.id, old.created_at, old.provider_id, old.event, old.from_state, old.to_state, old.actor_kind, old.actor_id)
        is distinct from (new.id, new.created_at, new.provider_id, new.event, new.from_state, new.to_state, new.actor_kind, new.actor_id)
        or new.reason <> '')
    execute function supply_refuse('what happened to a provider stays written down; its words alone may be erased');

create table provider_contact (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    provider_id uuid not null,
    email varchar not null,
    token_hash bytea not null,
    expires_at timestamp with time zone not null,
    sent_at timestamp with time zone,
    verified_at timestamp with time zone,
    constraint pk_provider_contact primary key (id),
    constraint uq_provider_contact_token_hash unique (token_hash),
    constraint fk_provider_contact_provider_id_provider
        foreign key (provider_id) references provider (id) on delete restrict,
    constraint ck_provider_contact_hash_is_sha256 check (length(token_hash) = 32)
);
create index ix_provider_contact_provider_id_id on provider_contact (provider_id, id);

create table maintenance_window (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    node_id uuid not null,
    starts_at timestamp with time zone not null,
    ends_at timestamp with time zone not null,
    notice_s integer not null,
    reason varchar not null,
    state varchar(32) not null,
    created_by uuid,
    constraint pk_maintenance_window primary key (id),
    constraint fk_maintenance_window_node_id_node foreign key (node_id) references node (id) on delete restrict,
    constraint fk_maintenance_window_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint ck_maintenance_window_maintenancestate check (state in ('planned', 'started', 'ended', 'cancelled')),
    constraint ck_maintenance_window_ends_after_start check (starts_at < ends_at),
    constraint ck_maintenance_window_notice_at_most_a_day check (notice_s between 0 and 86400),
    constraint ck_maintenance_window_reason_is_short check (length(reason) <= 500)
);
create index ix_maintenance_window_node_id_id on maintenance_window (node_id, id);
create index ix_maintenance_window_due on maintenance_window (state, starts_at) where state in ('planned', 'started');

alter table node
    add column maintenance_id uuid,
    add column gpu_uuids text[] not null default '{}',
    add constraint fk_node_maintenance_id_maintenance_window
        foreign key (maintenance_id) references maintenance_window (id) on delete restrict;
update node set gpu_uuids = array(
    select gpu ->> 'uuid' from jsonb_array_elements(hardware -> 'gpus') gpu where gpu ->> 'uuid' <> '' order by 1)
 where jsonb_typeof(hardware -> 'gpus') = 'array' and hardware -> 'gpus' <> '[]';
create index ix_node_living_gpus on node using gin (gpu_uuids) where revoked_at is null;

-- Every process that holds links hears at the commit who is to be looked at again, whoever changed the row and however.
create function supply_news() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    perform pg_notify('supply_news', tg_table_name || ' ' || new.id);
    return null;
end $$;
create trigger tell_news after update of state, revoked_at, public_key, drain_until on node for each row
    when ((old.state, old.revoked_at, old.public_key, old.drain_until)
        is distinct from (new.state, new.revoked_at, new.public_key, new.drain_until))
    execute function supply_news();
create trigger tell_news after update of state on provider for each row
    when (old.state <> new.state) execute function supply_news();

do $$
declare
    c_providers constant text := 'provider_id = any ((select tenant_providers())::uuid[])';
    c_nodes constant text := 'exists (select from node n where n.id = %I.node_id)';
begin
    perform tenant_isolate('provider_event', c_providers);
    grant insert on provider_event to raymart_tenant;
    execute format('create policy tenant_adds on provider_event for insert to raymart_tenant with check (%s)', c_providers);
    perform tenant_isolate('provider_contact', c_providers, c_providers);
    perform tenant_isolate('maintenance_window', format(c_nodes, 'maintenance_window'), format(c_nodes, 'maintenance_window'));
end $$;
grant execute on function supply_news() to raymart_runtime, raymart_tenant;
