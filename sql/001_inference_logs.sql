-- The request log: one row for each prediction, and for each request that failed before it had any.
--
-- Partitioned by UTC day, so that `falcon db prune` drops whole days instead of deleting rows.

CREATE TABLE public.inference_logs (
    event_id           uuid             NOT NULL,  -- made by Falcon, never by the client; sortable by time
    batch_index        smallint         NOT NULL,  -- place in the request's batch, from 0
    created_at         timestamptz      NOT NULL,  -- when the request entered; the same for every attempt at it
    request_id         text             NOT NULL,  -- X-Request-ID: for correlation only, may repeat
    worker_id          text             NOT NULL,
    model              text,
    model_version      text,
    text_hash          text,                       -- SHA-256 of the normalised input, in hex
    text_length        integer,                    -- characters
    prediction         text,
    confidence         double precision,
    probabilities      jsonb,
    cache_hit          boolean,
    idempotency_hit    boolean,
    success            boolean          NOT NULL,
    status             smallint         NOT NULL,  -- of the HTTP answer
    processing_time_ms double precision,
    inference_time_ms  double precision,
    error_type         text,
    error_message      text,
    idempotency_key    text,                       -- hashed
    client_ip          inet,
    payload            jsonb,                      -- null unless LOG_PAYLOADS
    -- A partitioned table's key must hold the partition column. created_at belongs to the event, so what makes a row
    -- unique is (event_id, batch_index) all the same.
    PRIMARY KEY (event_id, batch_index, created_at)
) PARTITION BY RANGE (created_at);

-- Rows arrive in order of time, which is all that a BRIN index needs: it costs next to nothing to keep.
CREATE INDEX inference_logs_created_at ON public.inference_logs USING brin (created_at);
CREATE INDEX inference_logs_request_id ON public.inference_logs USING hash (request_id);

-- Makes the partition of one UTC day, if it is not there. Callers need no right to create tables.
--
-- The table is built apart and then attached: that, unlike CREATE TABLE ... PARTITION OF, lets others insert meanwhile.
CREATE FUNCTION public.falcon_ensure_partition(day date) RETURNS void
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
    -- Instances come to the same day at the same time; the first makes the partition, the others find it.
    PERFORM pg_advisory_xact_lock(hashtext('falcon_ensure_partition'));
    IF to_regclass(format('public.%I', partition_name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.inference_logs INCLUDING ALL)', partition_name);
    EXECUTE format(
        'ALTER TABLE public.inference_logs ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        partition_name, lower_bound, upper_bound
    );
END
$$;

REVOKE ALL ON FUNCTION public.falcon_ensure_partition(date) FROM PUBLIC;
