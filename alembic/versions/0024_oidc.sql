-- Identities at OpenID providers, by (issuer, subject); of one provider a user has one.

create table oidc_identity (
    id uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    user_id uuid not null,
    issuer varchar not null,
    subject varchar not null,
    email varchar,
    last_login_at timestamptz,
    constraint pk_oidc_identity primary key (id),
    constraint fk_oidc_identity_user_id_user foreign key (user_id) references "user" (id) on delete restrict,
    constraint uq_oidc_identity_issuer_subject unique (issuer, subject),
    constraint uq_oidc_identity_user_id_issuer unique (user_id, issuer),
    constraint ck_oidc_identity_subject_length check (length(subject) between 1 and 255)
);

-- Read before anybody acts for a tenant, and by nobody who does.
select tenant_isolate('oidc_identity');
