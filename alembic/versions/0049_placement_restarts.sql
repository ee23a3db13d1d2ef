-- How many replicas of a placement died, by its pool's controller.
alter table placement
    add column restarts integer not null default 0,
    add constraint ck_placement_restarts_not_negative check (restarts >= 0);
