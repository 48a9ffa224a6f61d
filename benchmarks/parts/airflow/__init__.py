"""An Airflow with all its processes, what runs on it, what is done to it, and what is seen of it from outside."""
