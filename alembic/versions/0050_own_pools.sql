-- A provider adds pools of its own. It changes and removes none: machines and certificates hang on them.
grant insert on pool to raymart_tenant;
create policy tenant_adds on pool for insert to raymart_tenant
    with check (kind = 'provider' and provider_id = any ((select tenant_providers())::uuid[]));

-- The join tokens of a provider that no machine has used.
create index ix_join_token_unused on join_token (provider_id, id) where used_at is null;
