-- How well endpoints and models serve, from attempts; and how long machines are linked. It can all be made again.

create table attempt_slot (
    endpoint_id uuid not null,
    starts_at timestamp with time zone not null,
    attempts integer not null,
    delivered integer not null,
    provider_failures integer not null,
    tokens bigint not null,
    first_token_bins jsonb not null,
    rate_bins jsonb not null,
    constraint pk_attempt_slot primary key (endpoint_id, starts_at)
);
create index ix_attempt_slot_starts_at on attempt_slot (starts_at);

create table service_figures (
    subject_id uuid not null,
    span varchar(32) not null,
    attempts integer not null,
    delivered integer not null,
    provider_failures integer not null,
    tokens bigint not null,
    first_token_ms_p50 integer,
    first_token_ms_p95 integer,
    tokens_per_s_p50 double precision,
    tokens_per_s_p95 double precision,
    computed_at timestamp with time zone default clock_timestamp() not null,
    constraint pk_service_figures primary key (subject_id, span),
    constraint ck_service_figures_span check (span in ('half_hour', 'day')),
    constraint ck_service_figures_delivered_of_attempts check (0 <= delivered and delivered <= attempts)
);

create table node_presence (
    node_id uuid not null,
    hour timestamp with time zone not null,
    samples smallint not null,
    seen smallint not null,
    constraint pk_node_presence primary key (node_id, hour),
    constraint ck_node_presence_seen_of_samples check (0 <= seen and seen <= samples)
);
create index ix_node_presence_hour on node_presence (hour);
