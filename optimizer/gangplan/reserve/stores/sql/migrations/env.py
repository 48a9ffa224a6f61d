"""How Alembic runs our migrations: on the connection and in the transaction that the ledger hands over."""

from alembic import context

from gangplan.reserve.stores.sql.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
context.run_migrations()
