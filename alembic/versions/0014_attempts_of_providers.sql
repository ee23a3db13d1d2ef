-- A provider looks at its own attempts, newest first. Without this each look reads every provider's.
create index ix_attempt_provider_id_id on attempt (provider_id, id);
