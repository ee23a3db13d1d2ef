-- The public face is for everybody again; what only private models need goes with them.
drop policy tenant_sees on rate_card;
create policy tenant_sees on rate_card for select to raymart_tenant using (true);
drop policy tenant_sees on endpoint;
create policy tenant_sees on endpoint for select to raymart_tenant using (true);
drop policy tenant_sees on offer;
create policy tenant_sees on offer for select to raymart_tenant using (true);
drop policy tenant_changes on model_revision;
revoke update on model_revision from raymart_tenant;
drop policy tenant_sees on model_revision;
create policy tenant_sees on model_revision for select to raymart_tenant using (true);
drop policy tenant_sees on model;
create policy tenant_sees on model for select to raymart_tenant using (true);

drop trigger check_state on model_revision;
drop function model_revision_check_state();
drop table model_share;
drop function tenant_shared_models();
drop table model_alias;
drop function model_alias_note();
drop table model_alias_change;
drop table revision_file;
drop table artifact;
drop trigger refuse_revival on model_revision;
drop trigger refuse_change on model_revision;
drop trigger refuse_hiding on model;
drop function registry_refuse();
alter table model_revision
    drop constraint ck_model_revision_named_by_manifest,
    drop constraint uq_model_revision_model_id_quantization_id,
    drop column published_at,
    drop column size_bytes,
    drop column manifest;
alter table model
    drop constraint uq_model_id_organization_id,
    drop constraint ck_model_private_has_owner,
    drop column visibility,
    drop column organization_id;
