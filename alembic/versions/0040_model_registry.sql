-- The model registry: what a revision consists of, where its files lie, which revision an alias names and named before,
-- and models that are some organizations' only.

-- Models without an organization are the marketplace's own.
alter table model
    add column organization_id uuid,
    add column visibility varchar(32) not null default 'public',
    add constraint fk_model_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    add constraint ck_model_visibility check (visibility in ('public', 'private')),
    add constraint ck_model_private_has_owner check (visibility = 'public' or organization_id is not null),
    add constraint uq_model_id_organization_id unique (id, organization_id);
create index ix_model_organization_id on model (organization_id);

-- The canonical manifest, byte for byte, so that anybody can compute the revision's name again.
alter table model_revision
    add column manifest bytea,
    add column size_bytes bigint,
    add column published_at timestamp with time zone,
    add constraint ck_model_revision_named_by_manifest
        check (manifest is null or digest = 'sha256:' || encode(sha256(manifest), 'hex')),
    add constraint ck_model_revision_size_positive check (size_bytes > 0),
    add constraint uq_model_revision_model_id_quantization_id unique (model_id, quantization, id);

-- A file that the object store holds, once for everybody or, sealed, once for an organization.
create table artifact (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid,
    sha256 varchar not null,
    size_bytes bigint not null,
    stored_sha256 varchar not null,
    stored_bytes bigint not null,
    key_id varchar,
    sealed_key bytea,
    constraint pk_artifact primary key (id),
    constraint uq_artifact_sha256_organization_id unique nulls not distinct (sha256, organization_id),
    constraint fk_artifact_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint ck_artifact_digests_are_sha256
        check (sha256 ~ '^[0-9a-f]{64}$' and stored_sha256 ~ '^[0-9a-f]{64}$'),
    constraint ck_artifact_sizes_not_negative check (size_bytes >= 0 and stored_bytes >= 0),
    constraint ck_artifact_sealed_as_a_whole check ((key_id is null) = (sealed_key is null)),
    constraint ck_artifact_plain_is_as_stored
        check (key_id is not null or (sha256 = stored_sha256 and size_bytes = stored_bytes)),
    constraint ck_artifact_private_is_sealed check (organization_id is null or key_id is not null)
);
create index ix_artifact_organization_id on artifact (organization_id);
create index ix_artifact_key_id on artifact (key_id) where key_id is not null;

create table revision_file (
    revision_id uuid not null,
    path varchar not null,
    artifact_id uuid not null,
    constraint pk_revision_file primary key (revision_id, path),
    constraint fk_revision_file_revision_id_model_revision
        foreign key (revision_id) references model_revision (id) on delete restrict,
    constraint fk_revision_file_artifact_id_artifact
        foreign key (artifact_id) references artifact (id) on delete restrict
);
create index ix_revision_file_artifact_id on revision_file (artifact_id);

-- One of a name for each number format: a model's stable q8_0 and its stable f16 are different revisions.
create table model_alias (
    model_id uuid not null,
    name varchar not null,
    quantization varchar not null,
    revision_id uuid not null,
    changed_at timestamp with time zone not null default clock_timestamp(),
    changed_by uuid,
    change varchar(32) not null,
    reason varchar not null,
    constraint pk_model_alias primary key (model_id, name, quantization),
    constraint fk_model_alias_model_id_quantization_revision_id_model_revision
        foreign key (model_id, quantization, revision_id)
        references model_revision (model_id, quantization, id) on delete restrict,
    constraint fk_model_alias_changed_by_user foreign key (changed_by) references "user" (id) on delete restrict,
    constraint ck_model_alias_name_is_short check (name ~ '^[a-z][a-z0-9-]{0,39}$'),
    constraint ck_model_alias_aliaschangekind check (change in ('set', 'rollback', 'removed')),
    constraint ck_model_alias_is_there check (change <> 'removed'),
    constraint ck_model_alias_reason_is_short check (length(reason) <= 500)
);
create index ix_model_alias_revision_id on model_alias (revision_id);

create table model_alias_change (
    id bigint generated always as identity,
    created_at timestamp with time zone not null default clock_timestamp(),
    model_id uuid not null,
    name varchar not null,
    quantization varchar not null,
    change varchar(32) not null,
    before_id uuid,
    after_id uuid,
    changed_by uuid,
    reason varchar not null,
    constraint pk_model_alias_change primary key (id),
    constraint fk_model_alias_change_model_id_model foreign key (model_id) references model (id) on delete restrict,
    constraint fk_model_alias_change_before_id_model_revision
        foreign key (before_id) references model_revision (id) on delete restrict,
    constraint fk_model_alias_change_after_id_model_revision
        foreign key (after_id) references model_revision (id) on delete restrict,
    constraint fk_model_alias_change_changed_by_user
        foreign key (changed_by) references "user" (id) on delete restrict,
    constraint ck_model_alias_change_aliaschangekind check (change in ('set', 'rollback', 'removed')),
    constraint ck_model_alias_change_removed_names_nothing check ((change = 'removed') = (after_id is null))
);
create index ix_model_alias_change_model_id_name_quantization_id
    on model_alias_change (model_id, name, quantization, id);

-- Who besides its owner may call a private model, or serve it. What was ever shared stays named in usage and earnings.
create table model_share (
    model_id uuid not null,
    organization_id uuid not null,
    owner_id uuid not null,
    access varchar(32) not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    created_by uuid,
    ended_at timestamp with time zone,
    constraint pk_model_share primary key (model_id, organization_id),
    constraint fk_model_share_model_id_owner_id_model
        foreign key (model_id, owner_id) references model (id, organization_id) on delete restrict,
    constraint fk_model_share_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_model_share_created_by_user foreign key (created_by) references "user" (id) on delete restrict,
    constraint ck_model_share_access check (access in ('use', 'host')),
    constraint ck_model_share_with_others check (organization_id <> owner_id)
);
create index ix_model_share_organization_id on model_share (organization_id);

create function registry_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege', table = tg_table_name,
        message = tg_op || ' on ' || tg_table_name || ' is refused: ' || tg_argv[0];
end $$;
create trigger refuse_hiding before update on model for each row
    when (old.visibility = 'public' and new.visibility <> 'public')
    execute function registry_refuse('a model that was public stays public, for those who used it name it');
create trigger refuse_change before update on model_revision for each row
    when ((old.id, old.model_id, old.digest, old.engine, old.quantization, old.source, old.sha256, old.context_length,
           old.capabilities, old.manifest, old.size_bytes)
        is distinct from (new.id, new.model_id, new.digest, new.engine, new.quantization, new.source, new.sha256,
           new.context_length, new.capabilities, new.manifest, new.size_bytes))
    execute function registry_refuse('a revision is what its digest says; make another');
create trigger refuse_revival before update on model_revision for each row
    when (old.state = 'withdrawn' and new.state <> 'withdrawn')
    execute function registry_refuse('what was withdrawn stays withdrawn; import and publish it as another revision');
create trigger refuse_change before update on artifact for each row
    when ((old.id, old.organization_id, old.sha256, old.size_bytes, old.stored_sha256, old.stored_bytes)
        is distinct from (new.id, new.organization_id, new.sha256, new.size_bytes, new.stored_sha256, new.stored_bytes))
    execute function registry_refuse('an artifact is what its digest says; only its key is wrapped anew');
create trigger refuse_change before update on revision_file for each row
    execute function registry_refuse('a revision is what its digest says');
create trigger refuse_change before update or delete on model_alias_change for each row
    execute function registry_refuse('what an alias named stays known');
create trigger refuse_truncate before truncate on model_alias_change for each statement
    execute function registry_refuse('what an alias named stays known');

-- An alias names what can be served, and what it named before stays written down, whoever changes it and however.
create function model_alias_note() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_state text;
begin
    if tg_op = 'DELETE' then
        insert into model_alias_change (model_id, name, quantization, change, before_id, reason)
        values (old.model_id, old.name, old.quantization, 'removed', old.revision_id, '');
        return null;
    end if;
    -- Who withdraws the revision at this moment is waited for, or waits.
    select state into v_state from model_revision where id = new.revision_id for share;
    if v_state not in ('published', 'deprecated') then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_model_alias_names_what_is_served', table = 'model_alias',
            message = 'the revision is ' || v_state || '; an alias names one that is published or deprecated';
    end if;
    insert into model_alias_change (model_id, name, quantization, change, before_id, after_id, changed_by, reason)
    values (new.model_id, new.name, new.quantization, new.change, case tg_op when 'UPDATE' then old.revision_id end, new.revision_id,
            new.changed_by, new.reason);
    return null;
end $$;
-- After: before an INSERT that turns out to be an UPDATE, it would be asked twice.
create trigger note_change after insert or update or delete on model_alias
    for each row execute function model_alias_note();

create function model_revision_check_state() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_alias text;
begin
    select name into v_alias from model_alias where revision_id = new.id order by name limit 1;
    if found then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_model_revision_not_named', table = 'model_revision',
            message = 'the alias ' || v_alias || ' names the revision; point it at another one first';
    end if;
    return new;
end $$;
create trigger check_state before update on model_revision for each row
    when (old.state <> new.state and new.state in ('draft', 'withdrawn'))
    execute function model_revision_check_state();

-- Private models are seen by their organization, and by those they are or were shared with.
create function tenant_shared_models() returns uuid[] language sql stable parallel safe as $$
    select coalesce(array_agg(model_id), '{}') from model_share where organization_id = any (tenant_organizations())
$$;
select tenant_isolate('artifact');
select tenant_isolate('revision_file');
select tenant_isolate(
    'model_share',
    'organization_id = any ((select tenant_organizations())::uuid[]) or owner_id = any ((select tenant_organizations())::uuid[])'
);
grant insert, update on model_share to raymart_tenant;
create policy tenant_adds on model_share for insert to raymart_tenant
    with check (owner_id = any ((select tenant_organizations())::uuid[]));
create policy tenant_changes on model_share for update to raymart_tenant
    using (owner_id = any ((select tenant_organizations())::uuid[]))
    with check (owner_id = any ((select tenant_organizations())::uuid[]));

drop policy tenant_sees on model;
create policy tenant_sees on model for select to raymart_tenant using (
    visibility = 'public' or organization_id = any ((select tenant_organizations())::uuid[])
    or id = any ((select tenant_shared_models())::uuid[]) or (select tenant_sees_market())
);
drop policy tenant_sees on model_revision;
create policy tenant_sees on model_revision for select to raymart_tenant using (
    exists (select from model m where m.id = model_revision.model_id)
);
grant update on model_revision to raymart_tenant;
create policy tenant_changes on model_revision for update to raymart_tenant using (
    exists (select from model m where m.id = model_revision.model_id
            and m.organization_id = any ((select tenant_organizations())::uuid[]))
) with check (
    exists (select from model m where m.id = model_revision.model_id
            and m.organization_id = any ((select tenant_organizations())::uuid[]))
);
do $$
declare
    v_table text;
begin
    foreach v_table in array array['offer', 'endpoint'] loop
        execute format('drop policy tenant_sees on %I', v_table);
        execute format(
            'create policy tenant_sees on %1$I for select to raymart_tenant using ('
            'exists (select from model_revision r where r.id = %1$I.revision_id))', v_table
        );
    end loop;
end $$;
drop policy tenant_sees on rate_card;
create policy tenant_sees on rate_card for select to raymart_tenant using (
    exists (select from model m where m.id = rate_card.model_id)
);

select tenant_isolate('model_alias', 'exists (select from model m where m.id = model_alias.model_id)');
grant insert, update, delete on model_alias to raymart_tenant;
select tenant_isolate('model_alias_change', 'exists (select from model m where m.id = model_alias_change.model_id)');
grant insert on model_alias_change to raymart_tenant;
revoke update, delete on model_alias_change from raymart_runtime;
do $$
declare
    v_table text;
    c_own constant text := 'exists (select from model m where m.id = %I.model_id'
        ' and m.organization_id = any ((select tenant_organizations())::uuid[]))';
begin
    foreach v_table in array array['model_alias', 'model_alias_change'] loop
        execute format('create policy tenant_adds on %I for insert to raymart_tenant with check (' || c_own || ')', v_table, v_table);
    end loop;
    execute format(
        'create policy tenant_changes on model_alias for update to raymart_tenant using (' || c_own || ') with check (' || c_own || ')',
        'model_alias', 'model_alias'
    );
    execute format('create policy tenant_removes on model_alias for delete to raymart_tenant using (' || c_own || ')', 'model_alias');
end $$;
grant execute on function tenant_shared_models(), model_alias_note(), model_revision_check_state(), registry_refuse()
    to raymart_runtime, raymart_tenant;
