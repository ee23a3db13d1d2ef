drop table node_presence;
drop table service_figures;
drop table attempt_slot;
