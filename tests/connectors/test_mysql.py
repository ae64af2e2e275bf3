"""MySQL where it differs from MariaDB: what its manual and its servers spell otherwise."""

from connectors.mysql import granted


def test_dynamic_privileges_stand_without_blanks_between_them() -> None:
    grants = (
        "GRANT SELECT, PROCESS ON *.* TO `reader`@`%`",
        "GRANT AUDIT_ABORT_EXEMPT,BACKUP_ADMIN,FLUSH_TABLES ON *.* TO `reader`@`%`",
        "GRANT RELOAD, SELECT ON `legacy`.* TO `reader`@`%`",
        "GRANT `role`@`%` TO `reader`@`%`",
    )
    assert granted(grants) == {"SELECT", "PROCESS", "AUDIT_ABORT_EXEMPT", "BACKUP_ADMIN", "FLUSH_TABLES"}
    assert granted(["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"]) == {"ALL PRIVILEGES"}
