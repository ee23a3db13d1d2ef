drop policy tenant_changes on placement;
drop policy tenant_adds on placement;
revoke insert, update on placement from raymart_tenant;
