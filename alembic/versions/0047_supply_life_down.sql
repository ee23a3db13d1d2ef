drop trigger tell_news on provider;
drop trigger tell_news on node;
drop function supply_news();
drop index ix_node_living_gpus;
alter table node drop constraint fk_node_maintenance_id_maintenance_window, drop column gpu_uuids, drop column maintenance_id;
drop table maintenance_window;
drop table provider_contact;
drop table provider_event;
alter table provider
    drop column contact_verified_at,
    drop column contact_email,
    drop column about,
    drop column website;
