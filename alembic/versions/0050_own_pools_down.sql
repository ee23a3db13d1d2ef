drop index ix_join_token_unused;
drop policy tenant_adds on pool;
revoke insert on pool from raymart_tenant;
