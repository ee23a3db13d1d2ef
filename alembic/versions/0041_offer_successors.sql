-- Which offer takes the place of one whose revision was superseded, and since when.
alter table offer
    add column succeeded_by uuid,
    add column succeeded_at timestamp with time zone,
    add constraint fk_offer_succeeded_by_offer foreign key (succeeded_by) references offer (id) on delete restrict,
    add constraint ck_offer_succeeded_at_a_time check ((succeeded_by is null) = (succeeded_at is null));
create index ix_offer_succeeded_by on offer (succeeded_by) where succeeded_by is not null;
