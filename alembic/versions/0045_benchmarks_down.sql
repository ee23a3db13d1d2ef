drop table node_telemetry;
drop table benchmark_check;
drop table benchmark;
drop table gpu;
