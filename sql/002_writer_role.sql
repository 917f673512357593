-- The rights that serving needs, as a role: grant it to the user in DATABASE_URL, and let another user migrate.
--
--     CREATE ROLE falcon_service LOGIN PASSWORD '...' IN ROLE falcon_writer;

DO $$
BEGIN
    -- Roles belong to the whole server: another database's migration may have made this one, or be making it now.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'falcon_writer') THEN
        CREATE ROLE falcon_writer NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL;
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'role falcon_writer was not created: % may not create roles', current_user;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'falcon_writer') THEN
        GRANT USAGE ON SCHEMA public TO falcon_writer;
        GRANT SELECT, INSERT ON public.inference_logs TO falcon_writer;
        GRANT EXECUTE ON FUNCTION public.falcon_ensure_partition(date) TO falcon_writer;
        GRANT SELECT ON public.schema_migrations TO falcon_writer;
    END IF;
END
$$;
