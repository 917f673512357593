-- As in 001, but who waited for the lock asks the catalog itself for the partition. to_regclass answers from the
-- session's cache, which still held that there is none: when two instances came to a new day together, one of them
-- failed with "relation already exists" and had to try again.

CREATE OR REPLACE FUNCTION public.falcon_ensure_partition(day date) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    partition_name constant text := 'inference_logs_' || to_char(day, 'YYYYMMDD');
    lower_bound    constant text := to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00';
    upper_bound    constant text := to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00';
BEGIN
    IF day IS NULL OR day < DATE '1970-01-01' OR day > DATE '9999-12-30' THEN
        RAISE EXCEPTION 'no partition for %', day USING ERRCODE = 'datetime_field_overflow';
    END IF;
    IF to_regclass(format('public.%I', partition_name)) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('falcon_ensure_partition'));
    IF EXISTS (
        SELECT FROM pg_class WHERE relname = partition_name AND relnamespace = 'public'::regnamespace
    ) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.inference_logs INCLUDING ALL)', partition_name);
    EXECUTE format(
        'ALTER TABLE public.inference_logs ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        partition_name, lower_bound, upper_bound
    );
END
$$;
