"""feedsvc: a gRPC activity-feed service over a Redis fan-out core."""
