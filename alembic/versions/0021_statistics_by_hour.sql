-- Sums of an hour's slots: a day of five-minute slots is too many to read every ten minutes.

create table attempt_hour (
    endpoint_id uuid not null,
    starts_at timestamp with time zone not null,
    attempts integer not null,
    delivered integer not null,
    provider_failures integer not null,
    tokens bigint not null,
    first_token_bins jsonb not null,
    rate_bins jsonb not null,
    constraint pk_attempt_hour primary key (endpoint_id, starts_at)
);
create index ix_attempt_hour_starts_at on attempt_hour (starts_at);
