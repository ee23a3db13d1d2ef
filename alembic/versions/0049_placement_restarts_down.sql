alter table placement drop column restarts;
