drop table pool_status;
