# The command `backup` runs every night, and its file is uploaded to a bucket. RDS makes backups too, and those restore any
# second. These files are portable: `restore` reads them on any server.

variable "backup_schedule" {
  description = "When the backup runs, in UTC, as a schedule of EventBridge."
  type        = string
  default     = "cron(0 2 * * ? *)"
}

variable "backup_retention_days" {
  description = "How many days the bucket retains a backup."
  type        = number
  default     = 30
}

variable "aws_cli_image" {
  description = "The image of the AWS CLI, which uploads the backups."
  type        = string
  default     = "public.ecr.aws/aws-cli/aws-cli:2.27.0"
}

resource "aws_s3_bucket" "backups" {
  #checkov:skip=CKV_AWS_18:Only the task that backs up writes to it, and CloudTrail records the calls
  #checkov:skip=CKV_AWS_144:A copy in another region or account is yours to decide
  #checkov:skip=CKV_AWS_145:S3 encrypts with its own key; BACKUP_KEY encrypts the files themselves
  #checkov:skip=CKV2_AWS_62:Nothing waits for a new backup; an alarm tells if none was made
  bucket        = "${local.short_name}-backups-${data.aws_caller_identity.current.account_id}"
  force_destroy = !var.deletion_protection
}

resource "aws_s3_bucket_public_access_block" "backups" {
  bucket                  = aws_s3_bucket.backups.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "backups" {
  bucket = aws_s3_bucket.backups.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "backups" {
  bucket = aws_s3_bucket.backups.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "backups" {
  bucket = aws_s3_bucket.backups.id

  rule {
    id     = "expire"
    status = "Enabled"
    filter {}

    expiration {
      days = var.backup_retention_days
    }

    # A version that was deleted or overwritten, by mistake or by an intruder, can be recovered for a week.
    noncurrent_version_expiration {
      noncurrent_days = 7
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.backups]
}

data "aws_iam_policy_document" "backups_over_tls" {
  statement {
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.backups.arn, "${aws_s3_bucket.backups.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "backups" {
  bucket     = aws_s3_bucket.backups.id
  policy     = data.aws_iam_policy_document.backups_over_tls.json
  depends_on = [aws_s3_bucket_public_access_block.backups]
}

# The image with the tools of the database, which deploy.sh writes: docker build --target backup .
resource "aws_ssm_parameter" "backup_image" {
  #checkov:skip=CKV2_AWS_34:The digest of an image is not a secret
  name           = "/${local.service}/${var.environment}/backup-image"
  type           = "String"
  insecure_value = "${aws_ecr_repository.this.repository_url}:none"

  lifecycle {
    ignore_changes = [insecure_value]
  }
}

# The task can add files to the bucket. It can neither read nor delete them.
data "aws_iam_policy_document" "backup" {
  statement {
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.backups.arn}/*"]
  }
}

resource "aws_iam_role" "backup" {
  name               = "${local.name}-backup"
  assume_role_policy = data.aws_iam_policy_document.ecs_tasks.json
}

resource "aws_iam_role_policy" "backup" {
  name   = "backup"
  role   = aws_iam_role.backup.id
  policy = data.aws_iam_policy_document.backup.json
}

resource "aws_ecs_task_definition" "backup" {
  #checkov:skip=CKV_AWS_249:The roles differ; checkov does not see it through references
  family                   = "${local.name}-backup"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.backup.arn
  skip_destroy             = true

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  # The volume gets the owner of /backups in the image, because the Dockerfile declares it as a VOLUME.
  volume {
    name = "backups"
  }

  container_definitions = jsonencode([
    merge(local.container, {
      name        = "backup"
      image       = aws_ssm_parameter.backup_image.insecure_value
      essential   = false
      command     = ["backup"]
      mountPoints = [{ sourceVolume = "backups", containerPath = "/backups", readOnly = false }]
    }),
    merge(local.container, {
      name        = "upload"
      image       = var.aws_cli_image
      command     = ["s3", "cp", "--recursive", "--no-progress", "/backups", "s3://${aws_s3_bucket.backups.id}/"]
      environment = [{ name = "HOME", value = "/tmp" }]
      secrets     = []
      mountPoints = [{ sourceVolume = "backups", containerPath = "/backups", readOnly = true }]
      dependsOn   = [{ containerName = "backup", condition = "SUCCESS" }]
    }),
  ])
}

data "aws_iam_policy_document" "scheduler_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    actions   = ["ecs:RunTask"]
    resources = ["${aws_ecs_task_definition.backup.arn_without_revision}:*", aws_ecs_task_definition.backup.arn_without_revision]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.backup.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  name               = "${local.name}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_assume.json
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "scheduler"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}

resource "aws_scheduler_schedule" "backup" {
  #checkov:skip=CKV_AWS_297:AWS encrypts the schedule with its own key
  name                = "${local.name}-backup"
  schedule_expression = var.backup_schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.scheduler.arn

    ecs_parameters {
      # Without a revision, so that it runs the newest.
      task_definition_arn = aws_ecs_task_definition.backup.arn_without_revision
      launch_type         = "FARGATE"

      network_configuration {
        subnets          = aws_subnet.private[*].id
        security_groups  = [aws_security_group.service.id]
        assign_public_ip = false
      }
    }

    retry_policy {
      maximum_retry_attempts = 3
    }
  }
}

# The AWS CLI writes this line when a file is in the bucket. `backup_made` of the service is not enough: the upload follows.
resource "aws_cloudwatch_log_metric_filter" "backup" {
  name           = "${local.name}-backup"
  log_group_name = aws_cloudwatch_log_group.service.name
  pattern        = "\"upload:\" \"to s3://${aws_s3_bucket.backups.id}/\""

  metric_transformation {
    namespace = local.name
    name      = "BackupsUploaded"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "backup" {
  alarm_name          = "${local.name}-backup"
  alarm_description   = "No backup has reached the bucket for 26 hours. Read the log entries of backup and upload: docs/runbook.md"
  namespace           = local.name
  metric_name         = "BackupsUploaded"
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 26
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
