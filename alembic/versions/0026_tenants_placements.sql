-- A provider that opens or ends an offer, or retires a machine, changes what should run on its own machines.

grant insert, update on placement to raymart_tenant;
create policy tenant_adds on placement for insert to raymart_tenant with check (
    exists (select from node n where n.id = placement.node_id and n.provider_id = any ((select tenant_providers())::uuid[]))
);
create policy tenant_changes on placement for update to raymart_tenant using (
    exists (select from node n where n.id = placement.node_id and n.provider_id = any ((select tenant_providers())::uuid[]))
) with check (
    exists (select from node n where n.id = placement.node_id and n.provider_id = any ((select tenant_providers())::uuid[]))
);
