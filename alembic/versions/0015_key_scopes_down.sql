alter table api_key
    drop column scopes,
    drop column models,
    drop column last_used_at,
    drop column rotated_at,
    drop column former_key_hash,
    drop column former_ends_at;
