drop table attempt_hour;
