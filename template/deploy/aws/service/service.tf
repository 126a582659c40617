locals {
  # How long ECS waits between SIGTERM and SIGKILL. It must be longer than SHUTDOWN_DRAIN_SECONDS and
  # SHUTDOWN_TIMEOUT_SECONDS together. Fargate allows at most 120 seconds.
  stop_timeout_seconds = 60

  settings = merge(
    {
      ENVIRONMENT   = var.environment
      HOST          = "0.0.0.0"
      PORT          = "8000"
      ALLOWED_HOSTS = local.https ? var.domain : aws_lb.this.dns_name
      # The load balancer has an address in one of these networks.
      TRUSTED_PROXIES = join(",", aws_subnet.public[*].cidr_block)
      # ECS removes a task from the load balancer before it sends SIGTERM, so little is left to drain.
      SHUTDOWN_DRAIN_SECONDS   = "5"
      SHUTDOWN_TIMEOUT_SECONDS = "20"
    },
    local.option_settings,
    var.settings,
  )

  # Setting by name, and the ARN of the secret with its value. ECS reads them at the start of a task.
  secrets = merge(local.option_secrets, { for name, secret in aws_secretsmanager_secret.yours : name => secret.arn })

  # Every container of this service runs without root and on a read-only root file system. Fargate drops the
  # capabilities of a user other than root. /tmp is in memory.
  container = {
    image                  = aws_ssm_parameter.image.insecure_value
    essential              = true
    user                   = "1000:1000"
    readonlyRootFilesystem = true
    stopTimeout            = local.stop_timeout_seconds
    linuxParameters = {
      initProcessEnabled = false
      capabilities       = { drop = ["ALL"] }
      tmpfs              = [{ containerPath = "/tmp", size = 64 }]
    }
    environment = [for name in sort(keys(local.settings)) : { name = name, value = local.settings[name] }]
    secrets     = [for name in sort(keys(local.secrets)) : { name = name, valueFrom = local.secrets[name] }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.service.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "ecs"
        # If CloudWatch is slow, log entries wait in memory and requests do not.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }
    # What AWS fills in. Written out, it causes no difference in the next plan.
    mountPoints    = []
    portMappings   = []
    systemControls = []
    volumesFrom    = []
  }
}

resource "aws_security_group" "service" {
  name        = "${local.name}-service"
  description = "The tasks of ${local.name}"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "service_from_load_balancer" {
  security_group_id            = aws_security_group.service.id
  description                  = "The load balancer"
  referenced_security_group_id = aws_security_group.load_balancer.id
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
}

# For images, secrets, logs and other services over HTTPS. Allow further ports for `module.service.security_group`.
resource "aws_vpc_security_group_egress_rule" "service_to_https" {
  security_group_id = aws_security_group.service.id
  description       = "HTTPS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136:AWS encrypts images with its own key
  name                 = local.name
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.deletion_protection

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Keep 50 releases, so that a rollback finds its image: each may have ten images, counting processors and attestations"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 500 }
      action       = { type = "expire" }
    }]
  })
}

# The image in service, which deploy.sh writes. Terraform reads it, so that a change of a setting changes no image. The
# history of this parameter shows when which image was deployed.
resource "aws_ssm_parameter" "image" {
  #checkov:skip=CKV2_AWS_34:The digest of an image is not a secret
  name           = "/${local.service}/${var.environment}/image"
  type           = "String"
  insecure_value = "${aws_ecr_repository.this.repository_url}:none"

  lifecycle {
    ignore_changes = [insecure_value]
  }
}

resource "aws_cloudwatch_log_group" "service" {
  #checkov:skip=CKV_AWS_158:AWS encrypts logs with its own key
  #checkov:skip=CKV_AWS_338:var.log_retention_days is yours; longer retention costs more
  name              = "/${local.service}/${var.environment}"
  retention_in_days = var.log_retention_days
}

resource "aws_secretsmanager_secret" "yours" {
  #checkov:skip=CKV_AWS_149:AWS encrypts secrets with its own key
  #checkov:skip=CKV2_AWS_57:You set these values, so you rotate them: docs/runbook.md
  for_each = toset(var.secrets)
  name     = "${local.service}/${var.environment}/${each.value}"
}

resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:Container Insights is billed by the metric; the alarms need none of its metrics
  name = local.name

  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_task_definition" "service" {
  #checkov:skip=CKV_AWS_249:The roles differ; checkov does not see it through references
  family                   = local.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  skip_destroy             = true # a rollback needs the old revisions

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  container_definitions = jsonencode([merge(local.container, {
    name         = "service"
    command      = ["serve"]
    portMappings = [{ containerPort = 8000, hostPort = 8000, protocol = "tcp" }]
    # Liveness, not readiness: an unavailable database must not cause a restart.
    healthCheck = {
      command = ["CMD", "python", "-Ic", join("; ", [
        "import http.client, sys",
        "c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=2)",
        "c.request('GET', '/health/live')",
        "sys.exit(c.getresponse().status != 200)",
      ])]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 30
    }
  })])
}

resource "aws_ecs_service" "this" {
  name            = local.service
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.service.arn
  launch_type     = "FARGATE"
  desired_count   = local.min_tasks
  # New tasks start beside the old ones, which stop once the new ones are healthy.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  # For the start of a task, before its health counts: longer than STARTUP_TIMEOUT_SECONDS.
  health_check_grace_period_seconds = 60
  propagate_tags                    = "SERVICE"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = aws_subnet.private[*].id
    security_groups  = [aws_security_group.service.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.service.arn
    container_name   = "service"
    container_port   = 8000
  }

  lifecycle {
    # deploy.sh changes the task definition, and the autoscaling changes the number of tasks.
    ignore_changes = [task_definition, desired_count]
  }

  depends_on = [aws_lb_listener.http, aws_lb_listener.https]
}

locals {
  min_tasks = local.shares_data ? var.min_tasks : 1
  max_tasks = local.shares_data ? max(var.min_tasks, var.max_tasks) : 1
}

resource "aws_appautoscaling_target" "service" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = local.min_tasks
  max_capacity       = local.max_tasks
}

resource "aws_appautoscaling_policy" "cpu" {
  name               = "${local.name}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.service.service_namespace
  resource_id        = aws_appautoscaling_target.service.resource_id
  scalable_dimension = aws_appautoscaling_target.service.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
