-- What the release before does not know cannot be kept: a model of these kinds has to be removed first, on purpose.
alter table model
    drop constraint ck_model_modality,
    add constraint ck_model_modality check (modality in ('chat'));
