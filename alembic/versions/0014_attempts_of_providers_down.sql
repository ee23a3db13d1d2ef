drop index ix_attempt_provider_id_id;
