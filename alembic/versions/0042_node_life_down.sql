drop table node_event;
drop trigger refuse_revival on node;
drop function supply_refuse();
drop index ix_node_absent;
alter table node
    drop column drain_until,
    drop column clock_skew_ms,
    drop column link_lost_at,
    drop column link_id,
    drop column qualified_at;
