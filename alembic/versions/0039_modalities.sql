alter table model
    drop constraint ck_model_modality,
    add constraint ck_model_modality check (modality in ('chat', 'image', 'embedding'));
