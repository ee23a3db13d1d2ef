-- Invitations, looks of the platform's support into a tenant, and projects that are over.

create table invitation (
    id uuid not null,
    created_at timestamp with time zone default clock_timestamp() not null,
    organization_id uuid not null,
    email varchar not null,
    role varchar(32) not null,
    token_hash bytea not null,
    invited_by uuid not null,
    expires_at timestamp with time zone not null,
    accepted_at timestamp with time zone,
    revoked_at timestamp with time zone,
    sent_at timestamp with time zone,
    constraint pk_invitation primary key (id),
    constraint uq_invitation_token_hash unique (token_hash),
    constraint fk_invitation_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_invitation_invited_by_user foreign key (invited_by) references "user" (id) on delete restrict,
    constraint ck_invitation_email_lower check (email = lower(email)),
    constraint ck_invitation_hash_is_sha256 check (length(token_hash) = 32),
    constraint ck_invitation_ends_once check (accepted_at is null or revoked_at is null),
    constraint ck_invitation_role
        check (role in ('owner', 'admin', 'developer', 'billing', 'operator', 'finance', 'support', 'viewer'))
);
create unique index uq_invitation_open on invitation (organization_id, email)
    where accepted_at is null and revoked_at is null;

create table support_access (
    id uuid not null,
    created_at timestamp with time zone default clock_timestamp() not null,
    organization_id uuid not null,
    user_id uuid not null,
    reason varchar not null,
    expires_at timestamp with time zone not null,
    closed_at timestamp with time zone,
    constraint pk_support_access primary key (id),
    constraint fk_support_access_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_support_access_user_id_user foreign key (user_id) references "user" (id) on delete restrict,
    constraint ck_support_access_has_reason check (length(reason) between 1 and 500),
    constraint ck_support_access_is_short
        check (expires_at > created_at and expires_at <= created_at + interval '8 hours')
);
create unique index uq_support_access_open on support_access (user_id, organization_id) where closed_at is null;
create index ix_support_access_organization_id on support_access (organization_id);
revoke delete on support_access from raymart_runtime;

alter table project add column archived_at timestamp with time zone;

do $$
declare
    c_own constant text := 'organization_id = any ((select tenant_organizations())::uuid[])';
begin
    perform tenant_isolate('invitation', c_own, c_own);
    perform tenant_isolate('support_access', c_own);
end $$;
-- Its owners read who looked; the name belongs to somebody who is no member.
drop policy tenant_sees on "user";
create policy tenant_sees on "user" for select to raymart_tenant using (
    id = (select tenant_user()) or exists (select from membership m where m.user_id = "user".id)
    or exists (select from support_access s where s.user_id = "user".id)
);
