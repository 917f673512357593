-- Views for people: SELECT * FROM falcon_requests_by_hour ORDER BY hour DESC LIMIT 24;
--
-- They read the whole log. On a large one, take the query from here and add a condition on created_at to it, which
-- keeps Postgres to the days that are needed.

CREATE VIEW public.falcon_requests_by_hour AS
SELECT
    date_trunc('hour', created_at, 'UTC')                                          AS hour,
    model,
    model_version,
    count(*)                                                                       AS predictions,
    count(DISTINCT event_id)                                                       AS requests,
    round(avg((NOT success)::int)::numeric, 4)                                     AS error_share,
    round(avg(cache_hit::int)::numeric, 4)                                         AS cache_hit_share,
    percentile_cont(0.50) WITHIN GROUP (ORDER BY processing_time_ms)               AS p50_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY processing_time_ms)               AS p95_ms,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY processing_time_ms)               AS p99_ms
FROM public.inference_logs
GROUP BY 1, 2, 3;

CREATE VIEW public.falcon_errors_by_hour AS
SELECT
    date_trunc('hour', created_at, 'UTC') AS hour,
    model,
    status,
    error_type,
    count(*)                              AS rows,
    max(created_at)                       AS last_seen,
    min(request_id)                       AS example_request_id
FROM public.inference_logs
WHERE NOT success
GROUP BY 1, 2, 3, 4;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'falcon_writer') THEN
        GRANT SELECT ON public.falcon_requests_by_hour, public.falcon_errors_by_hour TO falcon_writer;
    END IF;
END
$$;
