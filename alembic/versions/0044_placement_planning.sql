-- What providers choose of where and when an offer runs.
alter table offer
    add column warmth character varying(32) not null default 'warm',
    add column replicas_max integer not null default 1,
    add column nodes_max integer,
    add column gpus_max integer,
    add column idle_s integer not null default 300,
    add column hours jsonb not null default '[]',
    add column node_ids uuid[] not null default '{}',
    add constraint ck_offer_warmth check (warmth in ('warm', 'auto', 'on_demand')),
    add constraint ck_offer_replicas_max_in_range check (replicas_max between 1 and 16),
    add constraint ck_offer_nodes_max_positive check (nodes_max >= 1),
    add constraint ck_offer_gpus_max_not_negative check (gpus_max >= 0),
    add constraint ck_offer_idle_s_in_range check (idle_s between 5 and 86400);

-- A placement is a reservation until a controller confirms it.
alter table placement
    add column idle_s integer not null default 300,
    add column memory_bytes bigint not null default '0',
    add column gpus integer not null default 0,
    add column state_at timestamp with time zone not null default clock_timestamp(),
    add column confirm_by timestamp with time zone,
    add column confirmed_at timestamp with time zone,
    add column retry_at timestamp with time zone,
    add column releases integer not null default 0,
    add column cold_start_ms integer;
-- What is there was confirmed long ago.
update placement set confirmed_at = clock_timestamp() where state <> 'requested';

alter table node add column cached text[] not null default '{}';

create table placement_rejection (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    offer_id uuid not null,
    node_id uuid,
    misfit character varying(32) not null,
    detail character varying not null,
    constraint pk_placement_rejection primary key (id),
    constraint uq_placement_rejection_offer_id_node_id unique nulls not distinct (offer_id, node_id),
    constraint fk_placement_rejection_offer_id_offer foreign key (offer_id) references offer (id) on delete restrict,
    constraint fk_placement_rejection_node_id_node foreign key (node_id) references node (id) on delete restrict,
    constraint ck_placement_rejection_misfit check (misfit in (
        'no_node', 'node_not_chosen', 'node_draining', 'outside_hours', 'unsellable', 'no_gpus', 'gpu_memory', 'memory',
        'disk', 'released', 'gpus_taken', 'memory_taken', 'cpus_taken', 'enough_nodes'
    ))
);
create index ix_placement_rejection_node_id on placement_rejection (node_id);

create table model_placement (
    model_id uuid not null,
    asked bigint not null,
    waiting integer not null,
    offers integer not null,
    placed integer not null,
    running integer not null,
    sleeping integer not null,
    misfits jsonb not null,
    updated_at timestamp with time zone not null default clock_timestamp(),
    constraint pk_model_placement primary key (model_id),
    constraint fk_model_placement_model_id_model foreign key (model_id) references model (id) on delete restrict
);

-- A provider sees why its own offers are not placed; how a model stands, whoever sees the model.
select tenant_isolate('placement_rejection', 'exists (select from offer o where o.id = placement_rejection.offer_id'
    ' and o.provider_id = any ((select tenant_providers())::uuid[]))');
select tenant_isolate('model_placement', 'exists (select from model m where m.id = model_placement.model_id)');
