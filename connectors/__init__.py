"""How reports get in and results get out: transports, channels, the ClickHouse sink."""
