-- The three groups. Logins are made by the operator and put into one of them:
--
--     CREATE ROLE storer LOGIN PASSWORD '…' IN ROLE mayfly_storer;

DO $$
DECLARE
    role record;
BEGIN
    FOR role IN
        VALUES ('mayfly_storer', 'Mayfly: stores mail; may insert and make partitions'),
               ('mayfly_reaper', 'Mayfly: owns the tables and functions, drops expired mail'),
               ('mayfly_reader', 'Mayfly: reads unexpired mail, by a view and functions')
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role.column1);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role.column1);
            EXECUTE format('COMMENT ON ROLE %I IS %L', role.column1, role.column2);
        EXCEPTION
            -- Roles belong to the cluster: another database may be set up at the same moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;

    -- What is made next is made as mayfly_reaper.
    IF NOT pg_has_role('mayfly_reaper', 'USAGE') THEN
        GRANT mayfly_reaper TO CURRENT_USER;
    END IF;
END
$$;

-- The owner of partitions must be able to make them. Nobody else may make objects here: functions
-- that run with their owner's rights look names up in this schema. (PostgreSQL 14 lets everyone.)
-- Once this holds, somebody who does not own the schema may run the script again; before that, a
-- GRANT of his may do nothing but warn, and so it is looked at again.
DO $$
DECLARE
    schema CONSTANT text := current_schema();
BEGIN
    FOR attempt IN 1..2 LOOP
        IF has_schema_privilege('mayfly_reaper', schema, 'CREATE')
            AND has_schema_privilege('mayfly_reaper', schema, 'USAGE')
            AND has_schema_privilege('mayfly_storer', schema, 'USAGE')
            AND has_schema_privilege('mayfly_reader', schema, 'USAGE')
            AND NOT has_schema_privilege('mayfly_storer', schema, 'CREATE')
            AND NOT has_schema_privilege('mayfly_reader', schema, 'CREATE')
            AND NOT has_schema_privilege('public', schema, 'CREATE') THEN
            RETURN;
        END IF;
        IF attempt = 1 THEN
            EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO mayfly_reaper', schema);
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO mayfly_storer, mayfly_reader', schema);
            EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, mayfly_storer, mayfly_reader',
                           schema);
        END IF;
    END LOOP;
    RAISE EXCEPTION 'in schema %, mayfly_reaper must be able to make objects, and mayfly_storer, '
        'mayfly_reader and PUBLIC must not', schema
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Run this script as the owner of the schema or as a superuser.';
END
$$;
