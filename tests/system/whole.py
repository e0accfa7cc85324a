"""All four programs on one spool, a database and a smarthost, as an operator has them: for tests of
what they say together, in their logs and in their metrics."""

POISON = "poison@stored.example"

# A mail to it is what the database refuses.
REFUSE_POISON = f"""
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.recipient = '{POISON}' THEN
            RAISE EXCEPTION 'poison' USING ERRCODE = 'data_exception';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION refuse();
    GRANT EXECUTE ON FUNCTION refuse() TO public"""

SMTPD = {"SMTPD_DOMAINS": "stored.example", "SMTPD_RELAY_CLIENTS": "127.0.0.0/8",
         "SMTPD_DISCARD_DOMAINS": "discard.example", "SMTPD_REJECT_SENDERS": "spam.example",
         "SMTPD_REJECT_RECIPIENTS": "nobody@", "SMTPD_MAX_SIZE": 100000}


class Whole:
    """`metrics`: a directory for the files of metrics, which are named after the programs."""

    def __init__(self, programs, spool, database, host, metrics=None, **settings):
        def file(name):
            return {"METRICS_FILE": metrics / f"{name}.prom"} if metrics else {}

        self.smtpd = programs.smtpd(spool, **SMTPD, **settings, **file("smtpd"))
        self.storer = programs.storer(spool, database, **file("storer"))
        self.relay = programs.relay(spool, host, **file("relay"))
        self.reaper = programs.reaper(spool, database, **file("reaper"))
        self.programs = (self.smtpd, self.storer, self.relay, self.reaper)

    def stop(self):
        for program in self.programs:
            program.stop()

    def life(self, id):
        """What `grep ID` finds in the logs, program by program: ["smtpd accepted", …]"""
        return [f"{program.name} {entry['event']}" for program in self.programs
                for line, entry in zip(list(program.lines), program.log()) if id in line]
