-- Wallets that organizations have proven by a signature, with the evidence. One live proof per organization and wallet.

create table wallet_proof (
    id uuid not null,
    created_at timestamptz not null default clock_timestamp(),
    organization_id uuid not null,
    user_id uuid not null,
    address varchar not null,
    proven_at timestamptz not null default clock_timestamp(),
    message varchar not null,
    signature bytea not null,
    withdrawn_at timestamptz,
    constraint pk_wallet_proof primary key (id),
    constraint fk_wallet_proof_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_wallet_proof_user_id_user foreign key (user_id) references "user" (id) on delete restrict,
    constraint ck_wallet_proof_address_is_base58 check (length(address) between 32 and 44),
    constraint ck_wallet_proof_signature_is_ed25519 check (length(signature) = 64)
);

create unique index uq_wallet_proof_live on wallet_proof (organization_id, address) where withdrawn_at is null;
create index ix_wallet_proof_address_live on wallet_proof (address) where withdrawn_at is null;
create index ix_wallet_proof_user_id on wallet_proof (user_id);
