drop table wallet_proof;
