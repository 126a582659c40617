# The service's own database server. RDS creates and rotates the password of the administrator. Only the task that
# migrates uses it, to create the user of the service, who can access nothing but the service's database.

variable "database_class" {
  description = "The size of the database server."
  type        = string
  default     = "db.t4g.micro"
}

variable "database_storage_gb" {
  description = "The storage of the database at the start; it grows up to the fivefold by itself."
  type        = number
  default     = 20
}

variable "database_multi_az" {
  description = "Whether a standby in the other availability zone takes over within a minute or two. It doubles the price."
  type        = bool
  default     = false
}

variable "database_backup_days" {
  description = "How many days back RDS can restore the database, to any second."
  type        = number
  default     = 14
}

locals {
  database_url_secret  = aws_secretsmanager_secret.database_url.arn
  administrator_secret = one(aws_db_instance.this.master_user_secret).secret_arn
}

resource "aws_security_group" "database" {
  name        = "${local.name}-database"
  description = "The database of ${local.name}"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "database_from_service" {
  security_group_id            = aws_security_group.database.id
  description                  = "The service"
  referenced_security_group_id = aws_security_group.service.id
  ip_protocol                  = "tcp"
  from_port                    = local.database.port
  to_port                      = local.database.port
}

resource "aws_vpc_security_group_egress_rule" "service_to_database" {
  security_group_id            = aws_security_group.service.id
  description                  = "The database"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = local.database.port
  to_port                      = local.database.port
}

resource "aws_db_subnet_group" "this" {
  name       = local.name
  subnet_ids = aws_subnet.private[*].id
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${local.name}-"
  family      = local.database.family

  # The server accepts TLS only.
  parameter {
    name  = local.database.tls_parameter
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_157:var.database_multi_az is yours, because it doubles the price
  #checkov:skip=CKV_AWS_161:The service has a user with a password, because tokens of IAM expire after 15 minutes
  #checkov:skip=CKV_AWS_118:Enhanced monitoring costs extra; the alarms use the metrics that RDS has anyway
  #checkov:skip=CKV_AWS_293:var.deletion_protection is true unless you destroy the environment
  #checkov:skip=CKV_AWS_354:AWS encrypts with its own key
  #checkov:skip=CKV2_AWS_30:The service logs slow queries itself; statements may contain personal data
  identifier     = local.name
  engine         = local.database.engine
  engine_version = local.database.version
  instance_class = var.database_class

  allocated_storage     = var.database_storage_gb
  max_allocated_storage = var.database_storage_gb * 5
  storage_type          = "gp3"
  storage_encrypted     = true

  username                    = "administrator"
  manage_master_user_password = true
  parameter_group_name        = aws_db_parameter_group.this.name
  db_subnet_group_name        = aws_db_subnet_group.this.name
  vpc_security_group_ids      = [aws_security_group.database.id]
  publicly_accessible         = false
  multi_az                    = var.database_multi_az

  backup_retention_period    = var.database_backup_days
  copy_tags_to_snapshot      = true
  deletion_protection        = var.deletion_protection
  skip_final_snapshot        = !var.deletion_protection
  final_snapshot_identifier  = "${local.name}-final"
  auto_minor_version_upgrade = true

  enabled_cloudwatch_logs_exports = local.database.logs
  performance_insights_enabled    = true
}

# database-password.sh sets its value. Terraform never sees the password, so it is neither in the state nor in a plan.
resource "aws_secretsmanager_secret" "database_url" {
  #checkov:skip=CKV_AWS_149:AWS encrypts secrets with its own key
  #checkov:skip=CKV2_AWS_57:database-password.sh and a release rotate it, together with the user in the database
  name                    = "${local.service}/${var.environment}/DATABASE_URL"
  recovery_window_in_days = var.deletion_protection ? 30 : 0
}

# deploy.sh runs this task before each release. The first container creates the user and the database, unless they exist,
# and sets the user's password. The second one migrates the schema.
resource "aws_ecs_task_definition" "migrate" {
  #checkov:skip=CKV_AWS_249:The roles differ; checkov does not see it through references
  family                   = "${local.name}-migrate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  skip_destroy             = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  container_definitions = jsonencode([
    merge(local.container, {
      name       = "user"
      essential  = false
      entryPoint = ["python", "-Ic", file("${path.module}/${local.database.name}.py")]
      secrets = concat(local.container.secrets, [
        { name = "ADMINISTRATOR_NAME", valueFrom = "${local.administrator_secret}:username::" },
        { name = "ADMINISTRATOR_PASSWORD", valueFrom = "${local.administrator_secret}:password::" },
      ])
    }),
    merge(local.container, {
      name      = "migrate"
      command   = ["migrate"]
      dependsOn = [{ containerName = "user", condition = "SUCCESS" }]
    }),
  ])
}

resource "aws_cloudwatch_metric_alarm" "database_storage" {
  alarm_name          = "${local.name}-database-storage"
  alarm_description   = "The database has less than 2 GB of storage left: docs/runbook.md"
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  statistic           = "Minimum"
  dimensions          = { DBInstanceIdentifier = aws_db_instance.this.identifier }
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "LessThanThreshold"
  threshold           = 2000000000
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
