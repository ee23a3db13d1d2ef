"""What a statement raises while the database is away, late or being restarted."""

import psycopg
import psycopg_pool
import sqlalchemy.exc

DATABASE_AWAY = (
    OSError,
    TimeoutError,
    sqlalchemy.exc.SQLAlchemyError,
    psycopg.Error,
    psycopg_pool.PoolTimeout,
)
