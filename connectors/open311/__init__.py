"""Open311 GeoReport v2: documents of any city, pulling another city's requests, and our own façade."""
