drop table feature_switch;
drop table usage_flag;
drop table suspension;
