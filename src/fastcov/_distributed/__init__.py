"""Take X as a dask array: its chunks stay on the workers of a cluster, where functions over channels run."""
