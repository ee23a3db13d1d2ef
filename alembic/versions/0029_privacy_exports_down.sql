drop table privacy_export;
