drop table oidc_identity;
