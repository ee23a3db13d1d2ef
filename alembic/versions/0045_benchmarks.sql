-- What machines have, what was measured of them, and how they were doing by the hour.
create table gpu (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    node_id uuid not null,
    uuid varchar not null,
    model varchar not null,
    memory_bytes bigint not null,
    driver varchar not null,
    compute_capability varchar not null,
    multiprocessors integer not null,
    ecc boolean,
    mig jsonb not null,
    gone_at timestamp with time zone,
    constraint pk_gpu primary key (id),
    constraint uq_gpu_node_id_uuid unique (node_id, uuid),
    constraint fk_gpu_node_id_node foreign key (node_id) references node (id) on delete restrict
);
create index ix_gpu_uuid on gpu (uuid);

create table benchmark (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    node_id uuid not null,
    state varchar(32) not null,
    cause varchar(32) not null,
    asked_by uuid,
    hardware_digest varchar not null,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    constraint pk_benchmark primary key (id),
    constraint fk_benchmark_node_id_node foreign key (node_id) references node (id) on delete restrict,
    constraint fk_benchmark_asked_by_user foreign key (asked_by) references "user" (id) on delete restrict,
    constraint ck_benchmark_benchmarkstate check (state in ('requested', 'running', 'passed', 'failed', 'lost')),
    constraint ck_benchmark_benchmarkcause check (cause in ('new', 'changed', 'again', 'asked')),
    constraint ck_benchmark_finished_at_its_end
        check ((finished_at is null) = (state in ('requested', 'running')))
);
create index ix_benchmark_node_id_id on benchmark (node_id, id);
create unique index uq_benchmark_open on benchmark (node_id) where state in ('requested', 'running');

create table benchmark_check (
    benchmark_id uuid not null,
    position integer not null,
    check_name varchar not null,
    device varchar not null,
    value double precision,
    limit_value double precision,
    passed boolean not null,
    reason varchar(64),
    message varchar not null,
    constraint pk_benchmark_check primary key (benchmark_id, position),
    constraint fk_benchmark_check_benchmark_id_benchmark
        foreign key (benchmark_id) references benchmark (id) on delete cascade,
    constraint ck_benchmark_check_reason_of_failure check (passed = (reason is null)),
    constraint ck_benchmark_check_message_is_short check (length(message) <= 500)
);

create table node_telemetry (
    node_id uuid not null,
    hour timestamp with time zone not null,
    device varchar not null,
    minute bigint not null,
    samples integer not null,
    utilisation_sum double precision not null,
    utilisation_max double precision not null,
    memory_used_sum double precision not null,
    memory_used_max double precision not null,
    temperature_max double precision,
    power_sum double precision,
    disk_free_min double precision,
    ecc_uncorrected bigint,
    constraint pk_node_telemetry primary key (node_id, hour, device),
    constraint ck_node_telemetry_has_samples check (samples > 0)
);
create index ix_node_telemetry_hour on node_telemetry (hour);

-- A provider's own; what it asks to be measured it may write down, what was found it may not.
select tenant_isolate('gpu', 'exists (select from node n where n.id = gpu.node_id)');
select tenant_isolate('benchmark', 'exists (select from node n where n.id = benchmark.node_id)');
grant insert on benchmark to raymart_tenant;
create policy tenant_asks on benchmark for insert to raymart_tenant
    with check (state = 'requested' and exists (select from node n where n.id = benchmark.node_id));
select tenant_isolate(
    'benchmark_check', 'exists (select from benchmark b where b.id = benchmark_check.benchmark_id)'
);
select tenant_isolate('node_telemetry', 'exists (select from node n where n.id = node_telemetry.node_id)');
